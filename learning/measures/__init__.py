"""Test-then-learn (prequential) measures: AUC, log loss, calibration, F1, cost."""
