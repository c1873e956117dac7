"""Families of encoders, named `family:model`: each module is one, and assigns what builds its models to BUILD."""
