/*
 * Export what was corrected in the open QuPath project (0.4 or later) so that the next wsi_mil run uses it.
 *
 *   Annotations of class Tumor  -> <outFolder>/annotations/<image>.geojson   (give the folder as slides.annotations)
 *   Annotations of class Tissue -> <outFolder>/tissue/<image>.geojson        (copy into the run's tissue/ folder)
 *
 * "Ignore*" annotations go into both: they are taken out of the tissue. Locked contours of a model ("focus_mil >= 0.5")
 * are class Tumor as well: delete those that you do not mean as truth before you export.
 */
def outFolder = '/data/corrections'

if (binding.hasVariable('args') && args?.size() == 1) {
    outFolder = args[0]
}
def project = getProject()
if (project == null) {
    println 'No project is open'
    return
}
for (entry in project.getImageList()) {
    def annotations = entry.readHierarchy().getAnnotationObjects()
    def stem = entry.getImageName().replaceAll(/\.[^.]*$/, '')
    ['annotations': ['Tumor'], 'tissue': ['Tissue', 'Ignore*']].each { kind, names ->
        def chosen = annotations.findAll { it.getPathClass() != null && names.contains(it.getPathClass().getName()) }
        if (!chosen.isEmpty()) {
            def file = new File(new File(outFolder, kind), "${stem}.geojson")
            file.getParentFile().mkdirs()
            exportObjectsToGeoJson(chosen, file.getAbsolutePath(), 'FEATURE_COLLECTION')
            println "${file}: ${chosen.size()}"
        }
    }
}
