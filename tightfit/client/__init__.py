"""Who asks a service from Python: jobs, fronts and exports of another machine, or of another process of this one."""
