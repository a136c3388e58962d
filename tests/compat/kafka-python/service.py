"""Stands for a module of the suite that its package leaves out: here brokers are never started, only used."""


class ExternalService:
    def __init__(self, host, port):
        self.host = host
        self.port = port

    def open(self):
        pass

    def close(self):
        pass


class SpawnedService:
    def __init__(self, *args, **kwargs):
        raise RuntimeError("these tests use the broker that is there")
