"""A plan being carried out: conversations, verdicts, assessments, batches, money and the store."""
