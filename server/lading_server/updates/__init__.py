"""The endpoints by which a page installs, follows, removes and chooses the CUDA backend, over Lading's client.

``settings`` says what the server knows of its surroundings; ``service`` holds the one running change; ``feed`` is what
followers see of it; ``control`` speaks to the launcher; ``guard`` keeps other people's web pages out; ``routes`` are
the endpoints. Nothing here decides what is installed over what: that is Lading's client.
"""
