{
  "targets": [
    {
      "target_name": "fileaio",
      "sources": ["shim.c", "layout.c"],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"],
      "cflags": ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"],
      "ldflags": ["-Wl,-z,now", "-pthread"]
    }
  ]
}
