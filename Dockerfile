# An image with parlab, for CPU and CUDA (torch's wheels bring CUDA; the host needs NVIDIA's driver and container toolkit):
#   docker build -t parlab .
#   docker run --gpus all -v "$PWD:/work" -w /work parlab predict --model M --data D --out runs/out
FROM python:3.11
WORKDIR /parlab
COPY . .
RUN make setup
ENV PATH="/parlab/.venv/bin:$PATH"
ENTRYPOINT ["parlab"]
CMD ["--help"]
