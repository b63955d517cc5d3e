"""The image, the pod and the compose file, really run: by podman, in an image of Debian's packages."""
