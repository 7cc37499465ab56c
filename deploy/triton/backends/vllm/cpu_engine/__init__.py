"""A small text-generation engine for CPUs: continuous batching, LoRA per request, prefix reuse."""
