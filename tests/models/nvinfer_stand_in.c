/* Stands in for TensorRT 8 in tests: a version, and an empty registry of plugins. It builds and runs nothing, but
   TensorFlow loads it, and then its segmenter runs on a machine without TensorRT and without a GPU.
   One library for both libnvinfer.so.8 and libnvinfer_plugin.so.8; VERSION is 8601 for 8.6.1. */
#include <stdbool.h>

static long nothing(void) { return 0; }

#define EIGHT(x) x, x, x, x, x, x, x, x
static long (*methods[])(void) = {EIGHT(EIGHT(nothing))};
static struct {
  long (**methods)(void);
  void *fields[16];
} object = {methods, {0}};

int getInferLibVersion(void) { return VERSION; }
void *getPluginRegistry(void) { return &object; }
void *getBuilderPluginRegistry(int capability) { return &object; }
void *getLogger(void) { return &object; }
void *createInferBuilder_INTERNAL(void *logger, int version) { return 0; }
void *createInferRuntime_INTERNAL(void *logger, int version) { return 0; }
void *createInferRefitter_INTERNAL(void *engine, void *logger, int version) { return 0; }
bool initLibNvInferPlugins(void *logger, const char *space) { return true; }
