"""What the ASGI servers serve in the rows of FastAPI."""

from fastapi import FastAPI


app = FastAPI()


@app.get("/")
async def root() -> dict[str, str]:
    return {"message": "Hello, World!"}
