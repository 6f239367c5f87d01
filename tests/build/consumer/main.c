/* Uses the installed library as an app would; exit status 0 if it links, runs and refuses a missing
 * file. */
#include <headroom/headroom.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  hr_model* model = NULL;
  hr_error error;
  hr_status status;
  memset(&error, 0, sizeof(error));
  status = hr_model_open_path("no such model.hrm", NULL, &model, &error);
  printf("headroom %u.%u: %s\n", hr_version() >> 16, (hr_version() >> 8) & 255,
         hr_status_name(status));
  return status == HR_NOT_FOUND && model == NULL ? 0 : 1;
}
