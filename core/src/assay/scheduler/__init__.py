"""Run time: routing by signature, batching, fallback, quarantine, counters."""
