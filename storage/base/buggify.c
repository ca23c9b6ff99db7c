#include "buggify.h"

#ifdef COTERIE_BUGGIFY
bool (*buggify_hook)(enum buggify_point point);
#else
typedef int buggify_is_not_built_in;   /* ISO C wants something in every file */
#endif
