"""The job table: its states (`states.py`) and its only writer (`store.py`)."""
