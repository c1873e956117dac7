"""Experiments on a run: the poison experiment, and the audits of trained models and of aggregators."""
