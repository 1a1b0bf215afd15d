"""Distractors: true change that no action causes, put over finished footage."""
