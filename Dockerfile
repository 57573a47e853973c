# The service alone: it needs a Redis or Valkey by REDIS_URL, or by a file named in CONFIG_FILE.
# It writes to /app/logs only (the audit log), so the root file system can be read-only.

FROM node:20.20.2-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --include=dev --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
COPY routes ./routes
RUN npm run build && npm prune --omit=dev --no-audit --no-fund

FROM node:20.20.2-bookworm-slim
WORKDIR /app
# 0.0.0.0 is refused without API keys in the configuration, unless ALLOW_ANONYMOUS=true.
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8000
COPY package.json LICENSE ./
COPY lua ./lua
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
# A volume mounted here takes over this owner.
RUN mkdir logs && chown node:node logs
USER node
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.PORT + '/livez').then((reply) => process.exit(reply.ok ? 0 : 1), () => process.exit(1))"]
# The exec form: node is process 1 and receives the SIGTERM of `docker stop`, on which the service drains.
# Little of what a call makes outlives it: room for the young keeps the collector of garbage from moving it, and a bound lets it
# come before the memory of the process has grown by what is long over.
CMD ["node", "--max-semi-space-size=32", "--max-old-space-size=1024", "--enable-source-maps", "dist/src/main.js"]
