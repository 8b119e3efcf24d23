#!/bin/sh
# nginx.sh FOLDER ADDRESS GENERATION [proxy_protocol|http2]: becomes an nginx in the foreground, with its files in
# FOLDER/GENERATION. With the last word it takes connections that begin with a PROXY header, or with HTTP/2's preface,
# and no others.
set -eu
folder=$1/nginx-$3
mkdir -p "$folder"
case ${4:-} in
  proxy_protocol) client='$proxy_protocol_addr:$proxy_protocol_port' ;;
  *) client='$remote_addr:$remote_port' ;;
esac
case $(id -u) in 0) user='user root;' ;; *) user='' ;; esac
cat >"$folder/nginx.conf" <<CONF
daemon off;
$user
worker_processes 1;
pid $folder/pid;
error_log stderr warn;
events { worker_connections 512; }
http {
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path $folder/body;
  proxy_temp_path $folder/proxy;
  fastcgi_temp_path $folder/fastcgi;
  uwsgi_temp_path $folder/uwsgi;
  scgi_temp_path $folder/scgi;
  server {
    listen $2 ${4:-};
    add_header X-Request-Id \$http_x_request_id;
    add_header X-Generation $3;
    add_header X-Client $client;
    add_header X-Body-Length \$content_length;
    location / { return 200 "generation $3\\n"; }
  }
}
CONF
exec /usr/sbin/nginx -p "$folder" -c "$folder/nginx.conf" -e stderr
