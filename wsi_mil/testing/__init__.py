"""Suites of invariants that every implementation inherits; the project's own tests and yours use the same."""
