def submit(claim):
    raise NotImplementedError


left = wait = submit
