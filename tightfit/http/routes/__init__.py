"""Resources of the REST service, one file each."""
