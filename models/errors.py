"""What can go wrong in training and export; the message says what to do."""

from __future__ import annotations


class TrainingError(Exception):
    """Parent of all that models/ and export/ raise on purpose."""


class WeightsError(TrainingError):
    """VGG19 weights are missing or do not fit."""


class DataError(TrainingError):
    """Photos or crops are missing, too few, or of the wrong size."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, or made for another network."""


class DivergedError(TrainingError):
    """The loss stopped being a number."""
