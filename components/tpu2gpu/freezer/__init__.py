"""Turns a model's variables into constants, byte for byte."""
