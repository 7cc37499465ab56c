"""Inference's ways out: rows, retrieval, the model server and its LoRA adapters."""
