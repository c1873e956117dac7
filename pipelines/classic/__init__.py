"""Helpers of the study of the classic MIL benchmarks (`classic_mil.py`)."""
