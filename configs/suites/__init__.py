"""The suites of `renoise evaluate`, installed as the package `renoise_suites`."""
