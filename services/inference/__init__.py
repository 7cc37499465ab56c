"""Inference answers questions from the tenant's documents.

Consumes: releases.changed. Serves: Generate, RecordFeedback, GetAnswer. Emits: answers.generated,
feedback.recorded. Owns: prompts, the releases in force, and the record of answers.
"""
