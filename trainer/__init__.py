"""Trains a compact vision-language policy (Qwen2.5-VL) from expert trajectories; `loop.py` tells a step."""
