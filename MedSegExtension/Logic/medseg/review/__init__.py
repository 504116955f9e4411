"""Review of masks: findings, a reader's decisions on them, what is kept of both. Needs no model and no package."""
