"""What a session tells of itself: events, log, traces, progress and the summary."""
