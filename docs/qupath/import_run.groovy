/*
 * Import the GeoJSON of a wsi_mil run folder into every image of the open QuPath project (0.4 or later).
 *
 *   In QuPath: Automate > Script editor, open this file, set the two lines below, Run.
 *   At a shell: QuPath script --project=project.qpproj --args=/data/runs/mine --args=heatmaps/focus_mil import_run.groovy
 *
 * An image belongs to a file if the image's path, without its ending, ends with the slide id (the file's path in the
 * folder). Objects of an earlier import have the same ids: they are removed first. Images without a file are left alone.
 */
import qupath.lib.io.PathIO

def runFolder = '/data/runs/mine'        // the run folder
def what = 'heatmaps/focus_mil'          // or 'tissue'

if (binding.hasVariable('args') && args?.size() == 2) {
    runFolder = args[0]
    what = args[1]
}
def folder = new File(runFolder, what)
if (!folder.isDirectory()) {
    println "No folder ${folder}: set runFolder and what at the top of this script"
    return
}
def project = getProject()
if (project == null) {
    println 'No project is open: create one with your slides first'
    return
}

// slide id -> file
def files = [:]
folder.eachFileRecurse { file ->
    if (file.name ==~ /.*\.geojson(\.gz)?/) {
        def id = folder.toPath().relativize(file.toPath()).toString().replace('\\', '/')
        files[id.replaceAll(/\.geojson(\.gz)?$/, '')] = file
    }
}

int imported = 0
def without = []
for (entry in project.getImageList()) {
    def paths = entry.getURIs().collect { '/' + (it.getPath() ?: '').replaceAll(/\.[^.\/]*$/, '') }
    def ids = files.keySet().findAll { id -> paths.any { it.endsWith('/' + id) } }
    if (ids.isEmpty()) {
        without << entry.getImageName()
        continue
    }
    def id = ids.max { it.length() }     // a/slide before slide
    def imageData = entry.readImageData()
    def hierarchy = imageData.getHierarchy()
    def objects = PathIO.readObjects(files[id])
    def known = objects.collect { it.getID() } as Set
    def earlier = hierarchy.getFlattenedObjectList(null).findAll { known.contains(it.getID()) }
    hierarchy.removeObjects(earlier, true)
    hierarchy.addObjects(objects)
    entry.saveImageData(imageData)
    imageData.getServer().close()
    imported++
    println "${entry.getImageName()}: ${objects.size()} objects from ${files[id].name}, ${earlier.size()} earlier ones replaced"
}
println "${imported} images; without a file: ${without.isEmpty() ? 'none' : without.join(', ')}"
println 'An image that is open in the viewer shows the objects after File > Reload data.'
