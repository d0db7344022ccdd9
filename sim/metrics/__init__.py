"""What a closed-loop run is worth: pure functions on its record, one file per family, formulas as published."""
