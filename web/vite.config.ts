import { cpSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const outDir = fileURLToPath(new URL("../api/static", import.meta.url));

/** Swagger UI's own files beside the page, so that /docs needs no other host. */
function swaggerUi(): Plugin {
  const files = ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "LICENSE", "NOTICE"];
  return {
    name: "swagger-ui",
    apply: "build",
    closeBundle() {
      const from = dirname(createRequire(import.meta.url).resolve("swagger-ui-dist/package.json"));
      mkdirSync(join(outDir, "swagger"), { recursive: true });
      for (const file of files) cpSync(join(from, file), join(outDir, "swagger", file));
    },
  };
}

export default defineConfig({
  plugins: [swaggerUi()],
  build: {
    outDir,
    emptyOutDir: true,
    target: "es2022",
    // The content policy is default-src 'self': nothing may become a data: address.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 300,
  },
  server: {
    // `npm run dev` against a running quayflow.
    proxy: Object.fromEntries(
      ["/v1", "/docs", "/swagger", "/openapi.json", "/asyncapi"].map((path) => [path, process.env["QUAYFLOW_URL"] ?? "http://127.0.0.1:8080"]),
    ),
  },
});
