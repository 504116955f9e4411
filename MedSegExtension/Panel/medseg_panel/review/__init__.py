"""The Review tab: from a mask to an answer that a reader can stand for."""
