"""Models on servers, one protocol in each file.

- base: the contract of a protocol, `ServerProtocol`, and `ServerAddress`
- registry: the protocols that are known
- tfserving, triton: TensorFlow Serving; Triton and other servers of KServe's version 2
- addresses: reading and opening addresses
- server_file, started: servers that are started for a measurement
- client_breakdown: the parts of a request's latency, as a client sees it
- failures: errors for what goes wrong between a client and its server
"""
