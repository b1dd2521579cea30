"""``bench --suite``: every figure of a device, case by case, within a number of minutes."""
