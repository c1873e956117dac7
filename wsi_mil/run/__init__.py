"""A run folder: where its files lie, what it holds, who may write to it, and what is up to date."""
