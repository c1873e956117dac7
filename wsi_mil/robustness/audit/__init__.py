"""Audits: what-if questions about a trained model, and sets of bags with a known shortcut."""
