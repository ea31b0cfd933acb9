# The server alone: docker build -t callboard . && docker run -p 2379:2379 -v data:/data callboard
FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --profile production

FROM gcr.io/distroless/cc-debian12
COPY --from=build /src/target/production/callboard /usr/local/bin/callboard
ENV ETCD_DATA_DIR=/data \
    ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379 \
    ETCD_ADVERTISE_CLIENT_URLS=http://127.0.0.1:2379
VOLUME /data
EXPOSE 2379 2380
ENTRYPOINT ["/usr/local/bin/callboard"]
