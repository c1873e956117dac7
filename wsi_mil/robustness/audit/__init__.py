"""Audits: an aggregator on generated bags with a known shortcut, and changes to the slides of a trained
model.
"""
