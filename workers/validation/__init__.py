"""The checklist of an installation before and during production: `pagemill validate`."""
