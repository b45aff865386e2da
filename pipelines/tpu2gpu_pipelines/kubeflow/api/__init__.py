"""What is asked of a Kubeflow Pipelines server.

- server: `Server`, KFP's client with limits, retries and errors
- uploading: versions of a pipeline, and experiments
- run_requests: what a run is asked for with: version, experiment, run parameters
- submitting: start a run, wait for its end, look for its model
- scheduling: recurring runs
- step_failures: why a step failed, from its logs
"""
