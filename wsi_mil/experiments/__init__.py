"""Experiments on a run: the poison experiment, and audits of models and of methods."""
