"""Damaged inputs of every kind that MedSeg reads: each must give a result or a sentence (``make fuzz``)."""
