"""Fault injection: kill, freeze and disconnect real workers on real servers, then audit the stores."""
