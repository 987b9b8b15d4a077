"""The engines, which run attempts; an engine never owns the study."""
