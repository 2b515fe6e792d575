"""What every process needs: breaker, health, watchdog, malloc and BLAS settings."""
