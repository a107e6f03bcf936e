"""The REST service: the verbs of `tightfit.service` as resources."""
