"""Families of encoders, named `family:model`: each module is one and assigns its builder to BUILD."""
