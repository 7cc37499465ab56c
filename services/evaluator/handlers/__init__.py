"""Use cases of the evaluator: propose, evaluate, decide, watch a canary, roll back."""
