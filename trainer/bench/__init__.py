"""Sides of `fovea bench update`, `rollout`, `step` and `ladder`, each a process: `python -m trainer.bench SIDE CASE`.

A case is one JSON object, documented where it is made: `pipeline.stages.bench_training.Case`.
"""
