"""LatencyEvaluator: measures a candidate against a baseline on real examples, and blesses or refuses it."""
