"""Encoders by name: each module is one encoder, named like its file, and assigns what builds it to BUILD."""
