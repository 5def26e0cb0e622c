from invoke import task
@task
def hello(c):
    """Say hello."""
    print("hi")
